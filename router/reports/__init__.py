"""The figures that people read: quality, spend, samples."""
