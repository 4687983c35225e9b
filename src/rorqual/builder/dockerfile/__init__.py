"""The Dockerfile language: text to instructions, words and variables, stages, .dockerignore."""
