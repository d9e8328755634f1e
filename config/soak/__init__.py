"""Hundreds of experts on the production configuration, while rounds train and web workers are killed: `make soak`."""
