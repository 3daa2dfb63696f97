"""Which of several scenarios is best, by how much, and how sure that is: comparisons by common random numbers, ranking
and selection."""
