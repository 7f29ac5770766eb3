"""Networks with an enforced Lipschitz constant."""
