"""labs - the assignments: what is taken out, and how an answer is graded."""
