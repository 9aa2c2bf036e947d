"""The answer of `stockrelay explain`: what is known of one SKU on one channel, in words, and what happens next."""
