"""Recipes. Each is a module with plan(), which draws everything random and asks no model, and make(), which does one task."""
