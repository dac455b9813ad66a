"""From tokens to the answer: where a text ends, stop phrases, log-probabilities."""
