"""All remedies against outliers side by side on one array: accuracy and cost."""
