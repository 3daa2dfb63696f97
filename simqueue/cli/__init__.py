"""The command line: thin verbs, each in a module that is imported when it is asked for."""
