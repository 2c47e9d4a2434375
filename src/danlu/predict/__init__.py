"""What a trained network does: predict, score, tag, generate, translate, and how well.

It knows networks and schemas, not folders: `danlu.runs.Run` passes itself as a `Trained`.
"""
