"""Forward and backward passes of M networks at once."""
