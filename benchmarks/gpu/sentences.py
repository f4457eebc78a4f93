"""Says in one line what went wrong with a job, for the terminal and the page."""

from __future__ import annotations

from benchmarks.gpu.job import Row

_SHOWN = 3  # faults of a job


def of_job(row: Row) -> list[str]:
    """Return a line for each fault of a job, kernel by kernel where that is known."""
    faults = [*row.get("stages", []), *row.get("faults", [])]
    lines = [of_fault(fault) for fault in faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        lines.append(f"and {len(faults) - _SHOWN} more")
    if not lines:
        lines = [str(row.get("error") or row.get("reason") or row["status"])[:400]]
    return lines


def of_fault(fault: Row) -> str:
    """Return what is wrong with a quantity, where, and by how much."""
    if "quantity" not in fault:
        return str(fault)
    words = [f"{fault['quantity']} ({fault['configuration']})"]
    words += [fault["kernel"]] if "kernel" in fault else []
    if "first" in fault:
        first = fault["first"]
        words.append(
            f"first wrong {first['index']}: expected {first['expected']:.6g}, found "
            f"{first['found']:.6g}"
        )
        words.append(f"{fault['wrong']} of {fault['of']} wrong")
        words += [f"{name} {value}" for name, value in fault.items() if " mod " in name]
        words.append(f"error {fault['error']:.2e}, budget {fault['budget']:.2e}")
    words += [fault["problem"]] if "problem" in fault else []
    words += [f"shape {fault['shape']}, not {fault['expected_shape']}"] if "shape" in fault else []
    return "; ".join(words)
