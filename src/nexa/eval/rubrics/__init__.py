"""Rubrics: the criteria that a judge grades answers by, each with five levels in words.

rubric     what a rubric is, its digest, and the overall score
reading    a rubric from its YAML file, its mistakes told with their lines
research   the rubric of the package: five criteria for proposals of research
"""
