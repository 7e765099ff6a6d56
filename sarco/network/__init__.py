"""The network: EfficientNet encoder, U-Net or SegResNet decoder, head; its first weights; mixing inside it; precision.

Images are (B, C, R, C) in [0, 1] with sides that are multiples of 32; logits are (B, K, R, C), background first.
Nothing of Lightning is imported here: it takes seconds, and a prediction does without.
"""
