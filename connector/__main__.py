"""The executable; `python -m connector` is the same."""

import gc

# Objects between two collections. Neither modules nor rows make cycles, so looking for some only costs CPU: at the
# start, too, which is why all else is imported below.
gc.set_threshold(200_000, 20, 50)

from connector.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
