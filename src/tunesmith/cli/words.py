"""Numbers as a person reads them."""


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best: `41 s`, `6.5 min`, `3.2 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """Decimal megabytes or gigabytes, as download pages count: `538.1 MB`, `1.2 GB`."""
    if n_bytes < 1e6:
        return f"{n_bytes / 1e3:.1f} kB"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.2f} GB"
