"""Reads the machine code of a kernel from cuobjdump, and counts its main loop's instructions."""

from __future__ import annotations

import collections
import re
from dataclasses import dataclass

# /*1050*/  @P1 BRA 0x65c0 ;
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P[\dT])\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")
NEVER = "!PT"  # the predicate of an instruction that is never executed
# A tile's work: products, accesses to shared memory, and exponentials.
WORK = frozenset(("HMMA", "LDSM", "LDGSTS", "LDS", "STS", "SHFL", "MUFU.EX2"))


@dataclass(frozen=True)
class Instruction:
    """An instruction: its address, its opcode, and where it may jump to.

    Attributes:
        address: In bytes, from the beginning of the kernel.
        opcode: Without modifiers, but for MUFU.EX2. NOP for what is never executed.
        target: Of a branch, or None.
        conditional: Whether a predicate decides if it is executed.
    """

    address: int
    opcode: str
    target: int | None
    conditional: bool


def main_loop(body: str, elements: int) -> collections.Counter[str]:
    """Count the opcodes of one iteration of a kernel's main loop, for a typical tile.

    The main loop is the smallest loop with the most HMMA. Some tiles have positives, elements of
    the diagonal or pairs that are left out, and all others branch around the treatment of each of
    these: so blocks that a conditional branch skips do not count, if they do none of a tile's work
    and are long enough to treat every element.

    Args:
        body: The listing of one kernel.
        elements: How many of a tile's elements a lane has.
    """
    loop = _main_loop(_parse(body))
    rare: set[int] = set()
    for block in _skipped_without_work(loop):
        if len(block) >= elements:
            rare.update(i.address for i in block)
    return collections.Counter(i.opcode for i in loop if i.address not in rare)


def _parse(body: str) -> list[Instruction]:
    code = []
    for address, predicate, opcode, operands in INSTRUCTION.findall(body):
        name = opcode if opcode == "MUFU.EX2" else opcode.split(".")[0]
        name = "NOP" if predicate == NEVER else name
        target = re.search(r"0x([0-9a-f]+)", operands) if name == "BRA" else None
        to = None if target is None else int(target[1], 16)
        code.append(Instruction(int(address, 16), name, to, predicate != ""))
    return code


def _main_loop(code: list[Instruction]) -> list[Instruction]:
    loops = [
        [i for i in code if last.target <= i.address <= last.address]
        for last in code
        if last.target is not None and last.target < last.address
    ]
    return max(loops, key=lambda loop: (sum(i.opcode == "HMMA" for i in loop), -len(loop)))


def _skipped_without_work(loop: list[Instruction]) -> list[list[Instruction]]:
    """Return the blocks that a conditional branch inside the loop jumps over."""
    blocks = []
    for branch in loop:
        if branch.conditional and branch.target is not None and branch.target <= loop[-1].address:
            block = [i for i in loop if branch.address < i.address < branch.target]
            if not any(i.opcode in WORK for i in block):
                blocks.append(block)
    return blocks
