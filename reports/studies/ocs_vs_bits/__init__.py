"""At equal accuracy, is W(b) with outlier channel splitting cheaper than W(b+1)?"""
