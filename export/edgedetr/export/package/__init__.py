"""Write the signed package that ships."""
