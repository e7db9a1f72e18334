"""What training eats: samples, their order as a function of the step, and micro batches."""
