"""Capacity questions: up to which rate, from how many replicas on, for which values do limits hold?"""
