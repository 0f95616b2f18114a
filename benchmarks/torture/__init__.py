"""What is done to runs, journals, budgets and limits to see whether they keep their promises."""
