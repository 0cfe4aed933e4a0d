"""The paper's grid: its plan (grid.py, standing.py, probe.py), its work (running.py), its tables (table.py,
remarks.py, files.py)."""
