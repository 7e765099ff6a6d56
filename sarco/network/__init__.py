"""The network: EfficientNet encoder, U-Net or SegResNet decoder, head; mixing inside it; device and precision."""
