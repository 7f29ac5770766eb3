"""Tables joined from all runs, and the claims that are decided from them. Needs pandas, not torch."""
