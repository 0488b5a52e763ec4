"""Small real models and tokenizers, made by code in seconds: nothing is downloaded and nothing is a mock."""
