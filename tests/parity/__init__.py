"""Every recorded number of the original code beside ours.

Each module yields :class:`Compared` rows for one kind of record; ``test_parity_oracle.py`` asserts
them, ``examples/parity_table.py`` prints them as the table of docs/results/parity.md.
"""
