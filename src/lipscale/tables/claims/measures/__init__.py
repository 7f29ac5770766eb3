"""The claims: one file for each family, with the constant CLAIMS. Thresholds are committed before a campaign is run."""
