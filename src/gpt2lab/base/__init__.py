"""The ground floor: errors, files, progress, downloads and device facts. Knows nothing of models."""
