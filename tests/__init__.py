"""Tests that tell stories: `unit` needs no root, `lab` makes whole networks."""
