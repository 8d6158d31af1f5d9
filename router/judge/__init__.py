"""What a model wrote, read and judged: may it be published?"""
