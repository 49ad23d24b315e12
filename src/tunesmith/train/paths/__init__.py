"""Paths through the layers, each equal to the reference path; the choice of one."""
