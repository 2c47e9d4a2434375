"""What a trained network does: predict, score, tag, generate, translate, and how well."""
