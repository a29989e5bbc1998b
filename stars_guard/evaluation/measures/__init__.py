"""What is measured of answers without a judge: length, variety, likelihood under the base model."""
