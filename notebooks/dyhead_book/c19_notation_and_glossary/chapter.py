# %% [markdown]
# # Notation and glossary
#
# | | |
# | --- | --- |
# | Time | to look things up |
# | Memory | none: there is nothing to run |
# | Needs | nothing |
#
# The same letters stand in formulas, docstrings, Numba, CUDA, tooltips, and at the end of variable names:
# `weights_BL` is a tensor of shape (B, L), `boxes_BQ4` one of shape (B, Q, 4). A link leads to the chapter that
# introduces or builds a thing.
#
# ## Letters
#
# | letter | means | typical value |
# | --- | --- | --- |
# | $B$ | images in a batch | 2 |
# | $L$ | levels of the pyramid, fine to coarse | 5 (P3 to P7), 4 in Deformable DETR |
# | $H$, $W$ | height, width of a map | 100, 167 at P3 of an 800 x 1333 image |
# | $S$ | positions of a map, $S = H W$ | 16,700 |
# | $C$ | channels | 256 |
# | $K$ | taps of a kernel | 9 |
# | $G$ | offset groups of a convolution | 1 |
# | $Q$ | queries | 300 |
# | $M$ | heads | 8 |
# | $P$ | points per head and level | 4 |
# | $D$ | channels per head, $D = C / M$ | 32 |
# | $N$ | tokens: positions of all levels together | 22,223 in Deformable DETR at 800 x 1333, 17,821 at 800 x 1066 |
# | $T$ | tokens that are kept | $\lfloor \rho N \rfloor + 1$ |
# | $I$ | blocks of a Dynamic Head, layers of a decoder | 6 |
#
# Two letters do a second service in the chapters on whole detectors, where no taps and no offset groups are near: in
# `logits_QK` and `cost_QG`, $K$ counts classes and $G$ the objects of an image. A dense detector has $N$ places in the
# place of tokens. A digit is a length: `boxes_G4`. Small letters, as in `areas_nm`, are lengths of one cell only.
#
# Boxes are $(x_1, y_1, x_2, y_2)$ in pixels unless a name says `_cxcywh` or `_norm`. Offsets are $(dy, dx)$ per tap in
# the convolution and $(x, y)$ in deformable attention, as in the published code of both. Pixel centres are whole numbers
# in the convolution; in $[0, 1]$ of a map the centre of cell $i$ of $W$ lies at $(i + 0.5) / W$. A `padding_mask` is True
# where there is padding.
#
# ## Index of symbols
#
# | symbol | means | chapter |
# | --- | --- | --- |
# | $F$ | features $(L, S, C)$ that Dynamic Head attends over | [07](07_dynamic_head.ipynb) |
# | $\pi_L$, $\pi_S$, $\pi_C$ | scale-, spatial-, task-aware attention | [02](02_scale_aware.ipynb), [05](05_spatial_aware.ipynb), [06](06_task_aware.ipynb) |
# | $\sigma$ | the hard sigmoid of the paper; in the chapters on DETR the sigmoid | [02](02_scale_aware.ipynb), [11](11_deformable_detr.ipynb) |
# | $f$ | the linear map of the level means | [02](02_scale_aware.ipynb) |
# | $g$ | a gate in chapter 02; a gradient that arrives in 03; the scoring network in 12 | [02](02_scale_aware.ipynb), [03](03_deformable_convolution.ipynb), [12](12_sparse_detr.ipynb) |
# | $r_l$ | scale ratio of a level | [02](02_scale_aware.ipynb), [15](15_learned_scale_ratios.ipynb) |
# | $w_{l,k}$ | weight of level $l$ and tap $k$ | [05](05_spatial_aware.ipynb) |
# | $p_0$, $p_k$ | output position, grid position of tap $k$ | [03](03_deformable_convolution.ipynb) |
# | $\Delta p_k$ | predicted offset of a tap | [03](03_deformable_convolution.ipynb) |
# | $\Delta m_k$ | predicted mask of a tap, in $[0, 1]$ | [03](03_deformable_convolution.ipynb) |
# | $G(q, p)$ | bilinear kernel: share of pixel $q$ in a sample at $p$ | [03](03_deformable_convolution.ipynb) |
# | $\alpha^1, \beta^1, \alpha^2, \beta^2$ | slopes and intercepts of the task-aware activation | [06](06_task_aware.ipynb) |
# | $\theta$ | the layers that compute them | [06](06_task_aware.ipynb) |
# | $P_3$ to $P_7$ | levels of a pyramid; cells of $2^l$ pixels | [01](01_feature_pyramid.ipynb) |
# | $C_3$ to $C_5$ | maps of the backbone | [01](01_feature_pyramid.ipynb) |
# | $\alpha_t$, $p_t$, $\gamma$ | weight, probability of the truth, and exponent of the focal loss | [08](08_dynamic_head_on_detectors.ipynb) |
# | $l, t, r, b$ | from a point to the four sides of its box | [08](08_dynamic_head_on_detectors.ipynb) |
# | $z_q$ | content of a query | [09](09_self_attention_to_deformable.ipynb) |
# | $p_q$, $\hat p_q$ | reference point; in $[0, 1]$ | [09](09_self_attention_to_deformable.ipynb), [10](10_multi_scale_deformable_attention.ipynb) |
# | $\phi_l$ | stretches a point of $[0, 1]^2$ to level $l$ | [10](10_multi_scale_deformable_attention.ipynb) |
# | $A_{mlqk}$ | attention weight | [09](09_self_attention_to_deformable.ipynb), [10](10_multi_scale_deformable_attention.ipynb) |
# | $U_m$, $V_m$, $W_m$, $W'_m$ | query, key, output and value projections | [09](09_self_attention_to_deformable.ipynb) |
# | $\theta_m$ | direction of head $m$ on the ring | [10](10_multi_scale_deformable_attention.ipynb) |
# | $\hat b_q$, $\Delta b$ | box of a query after a decoder layer; its correction, in logits | [11](11_deformable_detr.ipynb) |
# | $\rho$ | keeping ratio; in chapter 15 a rank correlation | [12](12_sparse_detr.ipynb), [15](15_learned_scale_ratios.ipynb) |
# | $\Omega_s^\rho$, $\Omega_D$ | the tokens that are kept; those that the decoder refers to | [12](12_sparse_detr.ipynb) |
# | $\mathrm{DAM}$ | decoder attention map | [12](12_sparse_detr.ipynb) |
# | $\gamma$ | in chapter 17: how much of the joint attention is added | [17](17_write_your_own_attention.ipynb) |
# | $\beta$, $\pi$ | in chapter 16: bytes and operations per second of a machine | [16](16_kernel_race.ipynb) |
# ## Glossary
#
# The words of this book, with those of Korean and Chinese texts.
# ### Detection
#
# | English | 한국어 | 中文 | meaning | chapter |
# | --- | --- | --- | --- | --- |
# | anchor | 앵커 | 锚框 | a box of fixed size at a place, which a detector corrects | [08](08_dynamic_head_on_detectors.ipynb) |
# | area (small, medium, large) | 크기 구분 | 尺度划分 | COCO's classes of size: below 32² pixels, to 96², above | [01](01_feature_pyramid.ipynb) |
# | average precision (AP) | 평균 정밀도 | 平均精度 | area under precision over recall, mean over classes and ten IoU thresholds | [01](01_feature_pyramid.ipynb) |
# | backbone | 백본 | 主干网络 | the network that turns the image into feature maps | [01](01_feature_pyramid.ipynb) |
# | bounding box | 바운딩 박스 | 边界框 | the smallest upright rectangle around an object | [08](08_dynamic_head_on_detectors.ipynb) |
# | centredness | 중심도 | 中心度 | how near the middle of its object a place lies, 1 to 0 | [08](08_dynamic_head_on_detectors.ipynb) |
# | crowd | 군집 영역 | 密集区域标注 | a COCO region of many objects that are not marked singly; nothing in it counts as wrong | [13](13_training_on_coco.ipynb) |
# | feature map | 특징 맵 | 特征图 | numbers per place, one channel for each kind | [02](02_scale_aware.ipynb) |
# | feature pyramid (FPN) | 특징 피라미드 | 特征金字塔 | maps of several resolutions, all with strong features | [01](01_feature_pyramid.ipynb) |
# | focal loss | 포컬 손실 | 焦点损失 | cross entropy that counts easy examples less | [08](08_dynamic_head_on_detectors.ipynb) |
# | generalised IoU (GIoU) | 일반화 IoU | 广义交并比 | IoU less the empty share of the hull; has a slope where boxes do not touch | [08](08_dynamic_head_on_detectors.ipynb), [11](11_deformable_detr.ipynb) |
# | head (of a detector) | 헤드 | 检测头 | the part that turns features into classes and boxes | [07](07_dynamic_head.ipynb) |
# | Hungarian algorithm | 헝가리안 알고리즘 | 匈牙利算法 | finds the cheapest matching | [11](11_deformable_detr.ipynb) |
# | intersection over union (IoU) | 교집합/합집합 비율 | 交并比 | overlap of two boxes | [01](01_feature_pyramid.ipynb) |
# | label assignment | 레이블 할당 | 标签分配 | says which place or query learns which object | [01](01_feature_pyramid.ipynb), [08](08_dynamic_head_on_detectors.ipynb) |
# | level | 레벨 | 层级 | one map of a pyramid; a larger number is a coarser map | [01](01_feature_pyramid.ipynb) |
# | matching (bipartite) | 이분 매칭 | 二分图匹配 | the cheapest one-to-one assignment of predictions to objects | [11](11_deformable_detr.ipynb) |
# | non-maximum suppression (NMS) | 비최대 억제 | 非极大值抑制 | drops boxes that overlap a better one | [08](08_dynamic_head_on_detectors.ipynb) |
# | objectness | 객체성 | 目标性 | how likely anything at all is there, whatever its class | [12](12_sparse_detr.ipynb) |
# | one-stage, two-stage detector | 1단계, 2단계 검출기 | 单阶段、两阶段检测器 | predicts at once; proposes first, then looks again | [01](01_feature_pyramid.ipynb), [08](08_dynamic_head_on_detectors.ipynb) |
# | precision, recall | 정밀도, 재현율 | 精确率、召回率 | share of detections that are right; share of objects that are found | [01](01_feature_pyramid.ipynb) |
# | proposal | 제안 | 候选区域 | a box that may hold an object, handed to a second step | [08](08_dynamic_head_on_detectors.ipynb), [11](11_deformable_detr.ipynb) |
# | receptive field | 수용 영역 | 感受野 | the pixels that an output depends on | [01](01_feature_pyramid.ipynb) |
# | RoI pooling | RoI 풀링 | 感兴趣区域池化 | cuts a box out of a map and brings it to a fixed size | [08](08_dynamic_head_on_detectors.ipynb) |
# | set prediction | 집합 예측 | 集合预测 | a fixed number of predictions, each for one object or none, in no order | [11](11_deformable_detr.ipynb) |
# | stride (of a level) | 스트라이드 | 步幅 | pixels from one cell to the next | [01](01_feature_pyramid.ipynb) |
# | tower | 타워 | 卷积塔 | convolutions between the pyramid and the predictions | [07](07_dynamic_head.ipynb), [08](08_dynamic_head_on_detectors.ipynb) |
# ### Attention and transformers
#
# | English | 한국어 | 中文 | meaning | chapter |
# | --- | --- | --- | --- | --- |
# | attention | 어텐션 | 注意力 | weights that depend on the input and say what counts | [00](00_start_here.ipynb), [09](09_self_attention_to_deformable.ipynb) |
# | auxiliary head | 보조 헤드 | 辅助头 | predictions of an earlier layer that are there for their loss | [12](12_sparse_detr.ipynb) |
# | Corr | 상관 지표 | 相关性指标 | share of the decoder's attention that falls on kept tokens | [12](12_sparse_detr.ipynb) |
# | cross-attention | 크로스 어텐션 | 交叉注意力 | queries read tokens of another kind | [09](09_self_attention_to_deformable.ipynb), [11](11_deformable_detr.ipynb) |
# | decoder attention map (DAM) | 디코더 어텐션 맵 | 解码器注意力图 | how much attention each token receives from the decoder | [12](12_sparse_detr.ipynb) |
# | decoder | 디코더 | 解码器 | turns object queries into detections | [09](09_self_attention_to_deformable.ipynb) |
# | deformable attention | 변형 가능한 어텐션 | 可变形注意力 | a query reads a few points and weighs them by a softmax | [09](09_self_attention_to_deformable.ipynb), [10](10_multi_scale_deformable_attention.ipynb) |
# | denoising | 디노이징 | 去噪 | queries that start from shaken truths and restore them, in training only | [22](22_later_work.ipynb) |
# | encoder | 인코더 | 编码器 | refines the tokens of the image | [09](09_self_attention_to_deformable.ipynb) |
# | feed-forward network | 피드포워드 네트워크 | 前馈网络 | two linear layers with an activation between, for each token alone | [12](12_sparse_detr.ipynb) |
# | gate | 게이트 | 门控 | a number that a whole map is multiplied by | [02](02_scale_aware.ipynb) |
# | head (of an attention) | 어텐션 헤드 | 注意力头 | one of several attentions side by side, each on a part of the channels | [09](09_self_attention_to_deformable.ipynb) |
# | iterative refinement | 반복적 정제 | 迭代优化 | each decoder layer corrects the box of the one before | [11](11_deformable_detr.ipynb) |
# | keeping ratio (share) | 유지 비율 | 保留比例 | share of tokens that Sparse DETR refines, ρ | [12](12_sparse_detr.ipynb) |
# | level embedding | 레벨 임베딩 | 层级嵌入 | a learned vector that tells tokens of one level from another's | [11](11_deformable_detr.ipynb) |
# | memory | 메모리 | 记忆 | the encoder's output, which the decoder reads | [09](09_self_attention_to_deformable.ipynb) |
# | object query | 객체 쿼리 | 目标查询 | a slot of the decoder that may become a detection: content plus position | [11](11_deformable_detr.ipynb) |
# | padding mask | 패딩 마스크 | 填充掩码 | True where a batch is filled up beyond an image | [11](11_deformable_detr.ipynb) |
# | reference point | 기준점 | 参考点 | where a query's sampling points start, in [0, 1] | [09](09_self_attention_to_deformable.ipynb), [10](10_multi_scale_deformable_attention.ipynb) |
# | residual connection | 잔차 연결 | 残差连接 | what came in is added to what comes out | [09](09_self_attention_to_deformable.ipynb) |
# | sampling point | 샘플링 포인트 | 采样点 | a place that a deformable layer reads | [10](10_multi_scale_deformable_attention.ipynb) |
# | scale ratio | 스케일 비율 | 尺度比 | weight of the finest over that of the coarsest branch | [02](02_scale_aware.ipynb), [15](15_learned_scale_ratios.ipynb) |
# | scale-aware attention | 스케일 인지 어텐션 | 尺度感知注意力 | weighs levels | [02](02_scale_aware.ipynb) |
# | scorer | 스코어러 | 评分网络 | tells before the encoder runs which tokens are worth refining | [12](12_sparse_detr.ipynb) |
# | self-attention | 셀프 어텐션 | 自注意力 | tokens, or queries, attend to each other | [09](09_self_attention_to_deformable.ipynb) |
# | sine position | 사인 위치 인코딩 | 正弦位置编码 | sines and cosines that tell where a token lies | [09](09_self_attention_to_deformable.ipynb) |
# | spatial-aware attention | 공간 인지 어텐션 | 空间感知注意力 | chooses places | [05](05_spatial_aware.ipynb) |
# | task-aware attention | 태스크 인지 어텐션 | 任务感知注意力 | chooses an activation per channel | [06](06_task_aware.ipynb) |
# | token | 토큰 | 词元 | one place of a map as a vector | [09](09_self_attention_to_deformable.ipynb) |
# | top-k (selection) | 상위 k개 선택 | 前k选择 | keeps the k best | [12](12_sparse_detr.ipynb) |
# | two stages (of DETR) | 2단계 | 两阶段 | the encoder's best tokens become the decoder's queries | [11](11_deformable_detr.ipynb) |
# | valid ratio | 유효 비율 | 有效比例 | share of a padded map that is image | [11](11_deformable_detr.ipynb) |
# | value | 값 | 值 | what is read of a token, after a projection | [09](09_self_attention_to_deformable.ipynb) |
# ### Convolution and sampling
#
# | English | 한국어 | 中文 | meaning | chapter |
# | --- | --- | --- | --- | --- |
# | bilinear interpolation | 양선형 보간 | 双线性插值 | a value between four pixels, by their shares | [03](03_deformable_convolution.ipynb) |
# | branch | 분기 | 分支 | one of the up to three maps that meet at a level | [02](02_scale_aware.ipynb), [05](05_spatial_aware.ipynb) |
# | channel | 채널 | 通道 | one of C numbers at each place | [01](01_feature_pyramid.ipynb) |
# | deformable convolution | 변형 가능한 합성곱 | 可变形卷积 | a convolution whose taps move by predicted offsets; v2 also has masks | [03](03_deformable_convolution.ipynb) |
# | dilation | 팽창 | 空洞 | taps that lie further apart | [01](01_feature_pyramid.ipynb) |
# | group normalisation (GroupNorm) | 그룹 정규화 | 组归一化 | mean 0 and variance 1 within each group of channels of an image | [02](02_scale_aware.ipynb), [05](05_spatial_aware.ipynb) |
# | hard sigmoid | 하드 시그모이드 | 硬Sigmoid | three straight lines in place of the sigmoid | [02](02_scale_aware.ipynb), [06](06_task_aware.ipynb) |
# | mask (modulation) | 변조 마스크 | 调制标量 | how much a tap counts | [03](03_deformable_convolution.ipynb) |
# | offset group | 오프셋 그룹 | 偏移组 | channels that share offsets | [03](03_deformable_convolution.ipynb) |
# | offset | 오프셋 | 偏移量 | how far a tap or a sampling point moves, in cells | [03](03_deformable_convolution.ipynb) |
# | tap | 탭 | 采样位 | one of the nine places that a 3x3 kernel reads | [03](03_deformable_convolution.ipynb) |
# ### Training and measuring
#
# | English | 한국어 | 中文 | meaning | chapter |
# | --- | --- | --- | --- | --- |
# | ablation | 제거 실험 | 消融实验 | train without a part, to see what it is worth | [07](07_dynamic_head.ipynb) |
# | backward pass | 역전파 | 反向传播 | from the loss to the gradients | [03](03_deformable_convolution.ipynb) |
# | checkpoint | 체크포인트 | 检查点 | a file from which a training goes on | [13](13_training_on_coco.ipynb) |
# | clipping (of gradients) | 그래디언트 클리핑 | 梯度裁剪 | shortens a gradient that is longer than a limit | [13](13_training_on_coco.ipynb) |
# | control | 대조군 | 对照 | the same measurement where the effect cannot be | [05](05_spatial_aware.ipynb), [15](15_learned_scale_ratios.ipynb) |
# | detached | 분리된 | 分离的 | used as a number, through which no gradient flows | [11](11_deformable_detr.ipynb) |
# | epoch | 에폭 | 轮次 | once through the data set | [13](13_training_on_coco.ipynb) |
# | exponential moving average (EMA) | 지수 이동 평균 | 指数移动平均 | weights averaged over the last steps | [13](13_training_on_coco.ipynb) |
# | factorial experiment | 요인 실험 | 析因实验 | all combinations of several switches, read over all pairs | [07](07_dynamic_head.ipynb) |
# | frozen | 고정된 | 冻结的 | not trained | [07](07_dynamic_head.ipynb) |
# | ground truth | 정답 | 真实标注 | what the annotators drew | [20](20_what_you_may_have_read.ipynb) |
# | hyper-parameter | 하이퍼파라미터 | 超参数 | a number that a person sets before training; not a weight | [02](02_scale_aware.ipynb) |
# | logit | 로짓 | 对数几率 | a number before the sigmoid or softmax | [08](08_dynamic_head_on_detectors.ipynb) |
# | multiply-add (MAC) | 곱셈-덧셈 | 乘加运算 | a product with its sum; papers often call one a FLOP, though it is two | [01](01_feature_pyramid.ipynb), [07](07_dynamic_head.ipynb) |
# | optimiser | 옵티마이저 | 优化器 | turns gradients into steps | [03](03_deformable_convolution.ipynb), [13](13_training_on_coco.ipynb) |
# | overfit | 과적합 | 过拟合 | learn pictures by heart | [11](11_deformable_detr.ipynb) |
# | padding | 패딩 | 填充 | what fills a map or a batch up | [11](11_deformable_detr.ipynb) |
# | rank correlation | 순위 상관 | 秩相关 | whether two lists have the same order, −1 to 1 | [15](15_learned_scale_ratios.ipynb) |
# | schedule | 스케줄 | 学习率调度 | how the learning rate changes over the steps | [13](13_training_on_coco.ipynb) |
# | seed | 시드 | 随机种子 | decides what chance draws | [07](07_dynamic_head.ipynb) |
# | spread | 산포 | 离散程度 | how far repeated measurements lie apart | [07](07_dynamic_head.ipynb) |
# | strict (loading) | 엄격한 불러오기 | 严格加载 | every parameter is there, under its name, with its shape | [01](01_feature_pyramid.ipynb) |
# | trace | 추적 | 追踪 | named intermediate results of a model, kept while somebody looks | [02](02_scale_aware.ipynb) |
# | warm-up | 워밍업 | 预热 | first steps with a small, growing rate | [13](13_training_on_coco.ipynb) |
# ### GPU
#
# | English | 한국어 | 中文 | meaning | chapter |
# | --- | --- | --- | --- | --- |
# | atomic (addition) | 원자적 덧셈 | 原子加 | many threads add to one number without losing any | [04](04_the_cuda_kernel.ipynb) |
# | bandwidth | 대역폭 | 带宽 | bytes per second that memory gives | [16](16_kernel_race.ipynb) |
# | barrier | 배리어 | 屏障 | no thread goes on before all have arrived | [04](04_the_cuda_kernel.ipynb) |
# | block (of threads) | 블록 | 线程块 | threads that share memory and can wait for each other | [04](04_the_cuda_kernel.ipynb) |
# | coalesced | 병합된 | 合并访问 | neighbouring threads read neighbouring numbers | [04](04_the_cuda_kernel.ipynb) |
# | emulator | 에뮬레이터 | 仿真器 | runs the same kernels on a CPU | [04](04_the_cuda_kernel.ipynb) |
# | kernel (of a convolution) | 커널 | 卷积核 | its weights | [03](03_deformable_convolution.ipynb) |
# | kernel (of a GPU) | 커널 | 核函数 | a function that many threads run | [04](04_the_cuda_kernel.ipynb) |
# | roofline | 루프라인 | 屋顶线模型 | the least time that bytes and operations allow | [16](16_kernel_race.ipynb) |
# | sector | 섹터 | 扇区 | 32 bytes, the least that a GPU reads | [04](04_the_cuda_kernel.ipynb) |
# | shared memory | 공유 메모리 | 共享内存 | small and fast, of one block of threads | [04](04_the_cuda_kernel.ipynb) |
# | tensor core | 텐서 코어 | 张量核心 | multiplies small matrices at once | [04](04_the_cuda_kernel.ipynb) |
# | thread, warp | 스레드, 워프 | 线程、线程束 | one course of a kernel; 32 of them in step | [04](04_the_cuda_kernel.ipynb) |
