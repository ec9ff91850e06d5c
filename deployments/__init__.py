"""What answers: one deployment for each model, behind one contract."""
