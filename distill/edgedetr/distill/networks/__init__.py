"""What detector families are made of: networks, their parts and criteria."""
