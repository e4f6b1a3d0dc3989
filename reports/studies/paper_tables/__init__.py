"""The published tables beside ours: what held on other networks and other images, and what cannot be compared."""
