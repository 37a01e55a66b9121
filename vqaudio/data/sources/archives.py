"""Where the public corpora are published, and what their archives must be.

Addresses and SHA-256 of all but MUSDB18-HQ: `torchaudio/datasets` (2.11) and, equal, the URL checksums of
tensorflow-datasets, which has the sizes too. MUSDB18-HQ: SHA-256 from torchaudio, size and MD5 from its Zenodo record.
MD5 of OpenSLR: the md5sum.txt beside its files.
"""

from vqaudio.data.download import Archive


def _openslr(resource: int, folder: str, checksums: dict[str, tuple[int, str, str]]) -> tuple[Archive, ...]:
    """`checksums`: part -> (bytes, SHA-256, MD5)."""
    return tuple(
        Archive(
            part=part,
            url=f"https://www.openslr.org/resources/{resource}/{part}.tar.gz",
            num_bytes=num_bytes,
            sha256=sha256,
            md5=md5,
            makes=f"{folder}/{part}",
        )
        for part, (num_bytes, sha256, md5) in checksums.items()
    )


LIBRISPEECH = _openslr(
    12,
    "LibriSpeech",
    {
        "train-clean-100": (
            6387309499,
            "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
            "2a93770f6d5c6c964bc36631d331a522",
        ),
        "train-clean-360": (
            23049477885,
            "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
            "c0e676e450a7ff2f54aeade5171606fa",
        ),
        "train-other-500": (
            30593501606,
            "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
            "d1a0fd59409feb2c614ce4d30c387708",
        ),
        "dev-clean": (
            337926286,
            "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
            "42e2234ba48799c1f50f24a7926300a1",
        ),
        "dev-other": (
            314305928,
            "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
            "c8d0bcc9cca99d4f8b62fcc847357931",
        ),
        "test-clean": (
            346663984,
            "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
            "32fa31d27d2e1cad72775fee3f4849a9",
        ),
        "test-other": (
            328757843,
            "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
            "fb5a50374b501bb3bac4815ee91d3135",
        ),
    },
)

LIBRITTS = _openslr(
    60,
    "LibriTTS",
    {
        "train-clean-100": (
            7723686890,
            "c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b",
            "4a8c202b78fe1bc0c47916a98f3a2ea8",
        ),
        "train-clean-360": (
            27504073644,
            "ce7cff44dcac46009d18379f37ef36551123a1dc4e5c8e4eb73ae57260de4886",
            "a84ef10ddade5fd25df69596a2767b2d",
        ),
        "train-other-500": (
            44565031479,
            "e35f7e34deeb2e2bdfe4403d88c8fdd5fbf64865cae41f027a185a6965f0a5df",
            "7b181dd5ace343a5f38427999684aa6f",
        ),
        "dev-clean": (
            1291469655,
            "da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a",
            "0c3076c1e5245bb3f0af7d82087ee207",
        ),
        "dev-other": (
            924804676,
            "d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c",
            "815555d8d75995782ac3ccd7f047213d",
        ),
        "test-clean": (
            1230670113,
            "234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5",
            "7bed3bdb047c4c197f1ad3bc412db59f",
        ),
        "test-other": (
            964502297,
            "33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d",
            "ae3258249472a13b5abef2a816f733e4",
        ),
    },
)

LJSPEECH = Archive(
    part="LJSpeech-1.1",
    url="https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
    num_bytes=2748572632,
    sha256="be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
    makes="LJSpeech-1.1",
)

VCTK = Archive(
    part="VCTK-Corpus-0.92",
    url="https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
    num_bytes=11747302977,
    sha256="f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
    unpack_into="VCTK-Corpus-0.92",
    makes="VCTK-Corpus-0.92/wav48_silence_trimmed",
)

MUSDB18_HQ = Archive(
    part="musdb18hq",
    url="https://zenodo.org/records/3338373/files/musdb18hq.zip",
    num_bytes=22656664047,
    sha256="baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",
    md5="12d4f2ecd55245a4688754dd76363103",
    unpack_into="musdb18hq",
    makes="musdb18hq/train",
)
