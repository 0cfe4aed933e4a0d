"""The paper's grid: its plan (grid.py, standing.py, probe.py), its work (running.py), its tables (kinds.py,
table.py, remarks.py, files.py)."""
