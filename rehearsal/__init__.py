"""Releases played on one machine, with no AWS account."""
