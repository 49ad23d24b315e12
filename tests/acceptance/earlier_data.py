"""What the script that makes the earlier data and the test that opens it share. Imports nothing of Tunesmith."""

from hashlib import sha256
from pathlib import Path

ARCHIVE = Path(__file__).parent / "fixtures" / "earlier-data.tar.gz"
UPLOADED = (b'{"messages": [{"role": "user", "content": "Dew?"}, ', b'{"role": "assistant", "content": "Yes."}]}\n')


def processor() -> str:
    """Results are bit-equal on one kind of processor: its name and what it can do."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    told = {name.strip(): value.strip() for name, value in known.items()}
    flags = sha256(" ".join(sorted(told["flags"].split())).encode()).hexdigest()[:16]
    return f"{told['model name']} {flags}"
