# %% [markdown]
# # Paper, released code, this book
#
# | | |
# | --- | --- |
# | Time | to look things up |
# | Memory | none: there is nothing to run |
# | Needs | nothing |
#
# Papers leave things open, and released code does some things differently. Here is every difference that this book
# knows of, and what it does about each. "Parity" means: with the same weights the book computes what the
# released code computes. It is tested to 1e-4 on weights that were drawn at random.
#
# ## Dynamic Head
#
# | | paper | released code | this book |
# | --- | --- | --- | --- |
# | order | scale, spatial, task | spatial, scale, task | `form="paper"` and `form="released"` |
# | tensor | all levels resized to the median one, $(L, S, C)$ | a pyramid; a level sees itself and its two neighbours | both |
# | scale gate | $\sigma(f(\text{means of all levels}))$ in $[0, 1]$ | each branch by its own mean, ReLU before the hard sigmoid: $[0.5, 1]$ | both |
# | mean over levels | $1/L$ | over the two or three branches that are present | both |
# | stacking blocks | the spatial step removes the level axis, and yet six blocks are stacked | nothing to solve | `levels="residual"` adds the sum back to every level; `levels="collapse"` is the literal equation ([chapter 07](07_dynamic_head.ipynb)) |
# | back to the pyramid | not said | nothing to solve | paper form: $x_l + \mathrm{resize}(y_l)$, a skip around the stack, without which nothing finer than the median level would come out |
# | weights of the convolution | per level and tap | three convolutions shared by all levels, with bias and GroupNorm | both; paper form with a $C \times C$ matrix per tap, or `depthwise=True` |
# | offsets for the coarser neighbour | fit, because all levels have one size | taken as the first numbers of a map of another size | `offset_fit="flat"` for parity; `"resize"` for new training, `"crop"`, `"upsample"` |
# | start of the offsets | not said (zero in deformable convolution) | not zero: the initialisation misses that layer | zero |
# | theta | mean over $L \times S$, normalisation, shifted sigmoid | mean of one level, hard sigmoid | both |
# | two-stage detectors | task-aware part after RoI pooling | all blocks before the proposals | `task_after_pooling` chooses |
# | frozen layers | not said | nothing is frozen: stem and first stage train too | as the recipe says; released recipes train all |
# | images without objects | not said | ATSS stops with an error | work everywhere |
# | ablation switches | rows of a table | none (GLIP's copy has them) | `scale=`, `spatial=`, `task=` |
#
# ## Deformable DETR
#
# | | paper | released code | this book |
# | --- | --- | --- | --- |
# | start of the offsets | head $m$ along its own direction, point $k$ lies $k$ cells away | the same | the same |
# | reference points on padded images | not said | scaled by the share of each level that is not padding | the same |
# | refinement from points | starts from a box 0.1 wide and high at the point | the first layer adds to $x, y$ only, its width and height are free | as released |
# | offsets around a box | times the size of the box; at the start divided by $2 P$ | times half the size over $P$, always | as released |
# | two-stage without refinement | not possible | stops with a TypeError | refused with a message |
# | precision | float32 | operator in float32 and float64 only | float16 and bfloat16 with float32 sums; offsets always in float32 |
# | classes | 80 | 91 logits: category ids are labels | any number; 91 for official weights |
#
# ## Sparse DETR
#
# | | paper | released code | this book |
# | --- | --- | --- | --- |
# | decoder attention map | bilinear, as attention reads | spread without the half cell: shifted | right; `compat="sparse-detr"` for parity |
# | tokens that are kept | $\rho N$ | $\lfloor \rho N \rfloor + 1$ of the valid ones; a batch runs at its largest count | the same number per image; the rest of a batch is filling that changes nothing |
# | padding | not said | counts in the scorer's mean and in its loss | does not count; `compat` for parity |
# | refinement without two-stage | refines | the decoder's box heads are not connected: nothing is refined | refines; `compat` for parity |
# | objectness score baseline | compared with | not released | `selection="objectness"` |
# | keeping ratio after training | another one at inference, under "dynamic sparsification" | an attribute | an argument: `rho` |
#
# ## Deformable convolution
#
# | | paper | torchvision | this book |
# | --- | --- | --- | --- |
# | gradient at whole positions | not said | follows the floor side | the same, tested |
# | bfloat16 | not said | none; float32 under autocast | native, float32 sums |
# | two runs, the same gradients | not said | not on a GPU (atomic sums) | with `torch.use_deterministic_algorithms(True)` |
#
# ## References
#
# ```bibtex
# @inproceedings{dai2021dynamic,
#   title     = {Dynamic Head: Unifying Object Detection Heads with Attentions},
#   author    = {Dai, Xiyang and Chen, Yinpeng and Xiao, Bin and Chen, Dongdong and Liu, Mengchen and Yuan, Lu and Zhang, Lei},
#   booktitle = {CVPR}, year = {2021}
# }
# @inproceedings{zhu2021deformable,
#   title     = {Deformable DETR: Deformable Transformers for End-to-End Object Detection},
#   author    = {Zhu, Xizhou and Su, Weijie and Lu, Lewei and Li, Bin and Wang, Xiaogang and Dai, Jifeng},
#   booktitle = {ICLR}, year = {2021}
# }
# @inproceedings{roh2022sparse,
#   title     = {Sparse DETR: Efficient End-to-End Object Detection with Learnable Sparsity},
#   author    = {Roh, Byungseok and Shin, JaeWoong and Shin, Wuhyun and Kim, Saehoon},
#   booktitle = {ICLR}, year = {2022}
# }
# @inproceedings{carion2020end,
#   title     = {End-to-End Object Detection with Transformers},
#   author    = {Carion, Nicolas and Massa, Francisco and Synnaeve, Gabriel and Usunier, Nicolas and Kirillov, Alexander and Zagoruyko, Sergey},
#   booktitle = {ECCV}, year = {2020}
# }
# @inproceedings{dai2017deformable,
#   title     = {Deformable Convolutional Networks},
#   author    = {Dai, Jifeng and Qi, Haozhi and Xiong, Yuwen and Li, Yi and Zhang, Guodong and Hu, Han and Wei, Yichen},
#   booktitle = {ICCV}, year = {2017}
# }
# @inproceedings{zhu2019deformable,
#   title     = {Deformable ConvNets v2: More Deformable, Better Results},
#   author    = {Zhu, Xizhou and Hu, Han and Lin, Stephen and Dai, Jifeng},
#   booktitle = {CVPR}, year = {2019}
# }
# @inproceedings{lin2017feature,
#   title     = {Feature Pyramid Networks for Object Detection},
#   author    = {Lin, Tsung-Yi and Doll{\'a}r, Piotr and Girshick, Ross and He, Kaiming and Hariharan, Bharath and Belongie, Serge},
#   booktitle = {CVPR}, year = {2017}
# }
# @inproceedings{zhang2020bridging,
#   title     = {Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample Selection},
#   author    = {Zhang, Shifeng and Chi, Cheng and Yao, Yongqiang and Lei, Zhen and Li, Stan Z.},
#   booktitle = {CVPR}, year = {2020}
# }
# @inproceedings{yang2019reppoints,
#   title     = {RepPoints: Point Set Representation for Object Detection},
#   author    = {Yang, Ze and Liu, Shaohui and Hu, Han and Wang, Liwei and Lin, Stephen},
#   booktitle = {ICCV}, year = {2019}
# }
# @inproceedings{qiu2020borderdet,
#   title     = {BorderDet: Border Feature for Dense Object Detection},
#   author    = {Qiu, Han and Ma, Yuchen and Li, Zeming and Liu, Songtao and Sun, Jian},
#   booktitle = {ECCV}, year = {2020}
# }
# @inproceedings{chen2020dynamic,
#   title     = {Dynamic ReLU},
#   author    = {Chen, Yinpeng and Dai, Xiyang and Liu, Mengchen and Chen, Dongdong and Yuan, Lu and Liu, Zicheng},
#   booktitle = {ECCV}, year = {2020}
# }
# @inproceedings{lin2014microsoft,
#   title     = {Microsoft COCO: Common Objects in Context},
#   author    = {Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona, Pietro and Ramanan, Deva and Doll{\'a}r, Piotr and Zitnick, C. Lawrence},
#   booktitle = {ECCV}, year = {2014}
# }
# @inproceedings{vaswani2017attention,
#   title     = {Attention Is All You Need},
#   author    = {Vaswani, Ashish and Shazeer, Noam and Parmar, Niki and Uszkoreit, Jakob and Jones, Llion and Gomez, Aidan N. and Kaiser, {\L}ukasz and Polosukhin, Illia},
#   booktitle = {NeurIPS}, year = {2017}
# }
# @inproceedings{bolya2020tide,
#   title     = {TIDE: A General Toolbox for Identifying Object Detection Errors},
#   author    = {Bolya, Daniel and Foley, Sean and Hays, James and Hoffman, Judy},
#   booktitle = {ECCV}, year = {2020}
# }
# @article{williams2009roofline,
#   title     = {Roofline: An Insightful Visual Performance Model for Multicore Architectures},
#   author    = {Williams, Samuel and Waterman, Andrew and Patterson, David},
#   journal   = {Communications of the ACM}, year = {2009}
# }
# ```
