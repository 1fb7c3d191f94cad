"""Searches one log: `python -I -S tasks/logs/log_search.py RUN_FOLDER < query.json`, hits as JSON lines."""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tasks.supervision.search import limit_myself, search

    limit_myself()
    for found in search(sys.argv[1], **json.load(sys.stdin)):
        sys.stdout.write(json.dumps(found) + "\n")
        if "line" not in found:
            sys.stdout.flush()
