"""What a model is told: contracts, variants, templates and their lock."""
