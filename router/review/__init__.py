"""What people decide about dead letters, and what they see when they decide."""
