"""Public fakes, faults and contract suites for tests, nexa's own and those of plugin authors."""
