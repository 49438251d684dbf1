"""`make demo`: enriches a table of product reviews, at the sandbox or at the endpoint that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import duckdb

from connector import sandbox

HERE = Path(os.path.relpath(Path(__file__).parent))
OUTPUT = Path("demo/reviews.parquet")
SHOWN = "product, rating, sentiment, topic, summary"


def main() -> int:
    """Runs the demo and returns the exit code of `enrich`."""
    OUTPUT.parent.mkdir(exist_ok=True)
    environment = dict(os.environ)
    with ExitStack() as stack:
        command = [sys.executable, "-m", "connector", "enrich", str(HERE / "reviews.csv")]
        command += ["--config", str(HERE / "reviews.json"), "--output", str(OUTPUT)]
        if "OPENAI_BASE_URL" not in environment:
            command += ["--endpoint-id", "sandbox"]  # whose port is another one each time
            url = stack.enter_context(sandbox.running(latency=0.05))
            environment |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": sandbox.KEY, "OPENAI_MODEL": sandbox.MODEL}
            print(f"The sandbox at {url} stands in for an endpoint: its answers follow rules, it is not a model.")
            print("Set OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL to run this at a real one.\n")
        print("$ openai-compatible", *command[3:], flush=True)
        code = subprocess.run(command, env=environment, check=False).returncode
    if code == 0:
        print(f"\nThe first rows of {OUTPUT}:")
        duckdb.read_parquet(str(OUTPUT)).project(SHOWN).limit(8).show(max_width=140)
        print(f"The replies are in {OUTPUT}.ledger: run this again, and it makes no call.")
    return code


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    raise SystemExit(code)
