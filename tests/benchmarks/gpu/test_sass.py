"""Instruction counts of a kernel's machine code."""

from __future__ import annotations

from benchmarks.gpu import sass

# Of the forward kernel for bf16 and D = 256 on sm_90a, with most of what repeats left out.
FORWARD = """
        /*0070*/              @!P0 BRA 0x00a0 ;
        /*0080*/                   VIADD R4, R4, 0x1 ;
        /*0090*/               @P0 BRA 0x0080 ;
        /*00a0*/               @P0 EXIT ;
        /*00b0*/                   LDGSTS.E.BYPASS.128 [R17], desc[UR10][R12.64], !P3 ;
        /*00c0*/                   LDGDEPBAR ;
        /*00d0*/                   DEPBAR.LE SB0, 0x0 ;
        /*00e0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00f0*/               @P1 BRA 0x0190 ;
        /*0100*/                   BSSY B0, 0x0180 ;
        /*0110*/              @!PT LDS RZ, [RZ] ;
        /*0120*/                   LDGSTS.E.BYPASS.128 [R21], desc[UR10][R8.64], !P6 ;
        /*0130*/                   LDGSTS.E.BYPASS.128 [R23+0x800], desc[UR10][R10.64], !P2 ;
        /*0140*/               @P0 BRA 0x0170 ;
        /*0150*/                   IMAD.WIDE R8, R9, 0x4, R8 ;
        /*0160*/                   LDGSTS.E [R11+0xc000], desc[UR10][R8.64], !P1 ;
        /*0170*/                   BSYNC B0 ;
        /*0180*/                   LDGDEPBAR ;
        /*0190*/                   LDSM.16.M88.4 R40, [R61+UR5] ;
        /*01a0*/                   LDSM.16.M88.4 R28, [R60+UR6+0x8000] ;
        /*01b0*/                   HMMA.16816.F32.BF16 R32, R40.reuse, R28, RZ ;
        /*01c0*/                   HMMA.16816.F32.BF16 R28, R40.reuse, R30, RZ ;
        /*01d0*/               @P0 BRA 0x0200 ;
        /*01e0*/                   IADD3 R9, R9, UR4, RZ ;
        /*01f0*/                   ISETP.GE.AND P0, PT, R9, R5, PT ;
        /*0200*/                   LDS.64 R12, [R20+UR6+0xc000] ;
        /*0210*/                   FFMA R32, R32, R12, -UR9 ;
        /*0220*/              @!P0 BRA 0x0290 ;
        /*0230*/                   ISETP.NE.AND P2, PT, R14, R15, PT ;
        /*0240*/                   ISETP.GE.AND P3, PT, R14, UR4, PT ;
        /*0250*/               @P3 BRA 0x0270 ;
        /*0260*/                   STG.E desc[UR10][R10.64], R32 ;
        /*0270*/                   FSEL R32, R32, -INF , !P2 ;
        /*0280*/                   FSEL R28, R28, -INF , !P2 ;
        /*0290*/                   MUFU.EX2 R32, R32 ;
        /*02a0*/                   FADD R7, R7, R32 ;
        /*02b0*/                   SHFL.BFLY PT, R3, R32, 0x4, 0x1f ;
        /*02c0*/               @P0 BRA 0x02e0 ;
        /*02d0*/                   STS [R8], R3 ;
        /*02e0*/              @!P1 BRA 0x00d0 ;
        /*02f0*/                   EXIT ;
        /*0300*/                   BRA 0x0300 ;
        /*0310*/                   NOP;
"""
ELEMENTS = 4


# A second rare case, whose treatment another branch skips.
WITH_TWO_CASES = FORWARD.replace(
    "        /*02b0*/                   SHFL",
    """        /*02a1*/               @P5 BRA 0x02b0 ;
        /*02a2*/                   LDG.E R2, desc[UR10][R10.64] ;
        /*02a3*/                   ISETP.NE.AND P2, PT, R2, R15, PT ;
        /*02a4*/                   FSEL R32, R32, -INF , P2 ;
        /*02a5*/                   FSEL R28, R28, -INF , P2 ;
        /*02b0*/                   SHFL""",
)


def test_treatment_of_another_rare_case_does_not_count() -> None:
    one, two = (sass.main_loop(body, ELEMENTS) for body in (FORWARD, WITH_TWO_CASES))
    assert two - one == {"BRA": 1}  # around it
    assert sass.main_loop(WITH_TWO_CASES, 5)["FSEL"] == 2  # too short to treat five elements


def test_treatment_of_rare_tiles_does_not_count() -> None:
    counts = sass.main_loop(FORWARD, ELEMENTS)
    assert counts["FSEL"] == counts["STG"] == 0
    assert counts["ISETP"] == 1  # of the test whether the tile is rare
    assert counts["BRA"] == 6  # the one around a store among what is rare is left out


def test_work_of_the_loop_counts() -> None:
    """Also what only some warps or tiles do of it: copies of the next tile, sums of columns."""
    counts = sass.main_loop(FORWARD, ELEMENTS)
    assert {name: counts[name] for name in ("HMMA", "LDSM", "LDGSTS", "LDS", "STS", "SHFL")} == {
        "HMMA": 2, "LDSM": 2, "LDGSTS": 3, "LDS": 1, "STS": 1, "SHFL": 1,
    }  # fmt: skip
    assert counts["MUFU.EX2"] == 1


def test_what_is_never_executed_takes_a_turn() -> None:
    assert sass.main_loop(FORWARD, ELEMENTS)["NOP"] == 1


def test_the_loop_ends_with_its_branch() -> None:
    assert sass.main_loop(FORWARD, ELEMENTS)["EXIT"] == 0
    assert sass.main_loop(FORWARD, ELEMENTS).total() == 28
