"""How much accuracy do splits buy that only fill idle rows of the array?"""
