"""an autoencoder's network run over part of a volume, or over all of it in slabs, exactly"""
