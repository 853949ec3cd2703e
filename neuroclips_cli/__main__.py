"""``python -m neuroclips_cli`` is the command ``neuroclips``."""

from __future__ import annotations

from neuroclips_cli.cli.main import main

if __name__ == "__main__":
    main()
