"""He's ResNets for 32x32 images in torch, with shortcuts that have no parameters ("option A")."""

from __future__ import annotations

import torch


class _Block(torch.nn.Module):
    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.conv2 = torch.nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(width)
        self.stride, self.pad = stride, (width - width_in) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = torch.nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return (y + shortcut).relu()


class CifarResNet(torch.nn.Module):
    """Three layers of ``blocks`` blocks with 16, 32 and 64 channels."""

    def __init__(self, blocks: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        width = 16
        for stage in (1, 2, 3):
            members = []
            for j in range(blocks):
                members.append(_Block(width, 8 * 2**stage, 2 if stage > 1 and j == 0 else 1))
                width = 8 * 2**stage
            setattr(self, f"layer{stage}", torch.nn.Sequential(*members))
        self.fc = torch.nn.Linear(64, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))
