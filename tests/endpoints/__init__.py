"""Tests of the endpoint kinds."""
