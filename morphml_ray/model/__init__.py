"""The frozen values that cross every border: records, objectives, statuses, plain data."""
